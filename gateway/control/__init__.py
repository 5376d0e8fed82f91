"""What the EMA decides: pure functions of the site, the timeline and the moment (docs/control.md)."""
