"""
What runs inside the box, beside the learner's code: the executor and the probe.

Nothing here decides anything. It runs a notebook, writes down facts (`nbassay.records`) and sends
them through one pipe; the host believes none of it until it has been decoded and cross-checked.
"""
