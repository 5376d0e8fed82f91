"""Which numbers virtual LEDs have, where nobody says otherwise: for them, and for an EMA that starts them."""

# Below these numbers real devices live; each link has its own, so that both may run at once.
FIRST = {"coap": 10001, "mqtt": 20001}
# In one process; the next link's begin there.
MOST = 9999
