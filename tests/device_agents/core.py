"""Which files a board gets."""

CORE = (
    "ujson_shim",
    "wire_fields",
    "messages_up",
    "messages_down",
    "lab_forms",
    "protocol",
    "plant",
    "agent",
    "lamp",
    "panel",
    "battery",
    "car",
)
