"""Reconnecting MQTT sessions and CoAP endpoints: the wires under every link. Know no message."""
