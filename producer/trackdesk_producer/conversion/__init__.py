"""The conversion: its model, rules, forms on the wire, and the messages about what is wrong with one."""
