"""One file per jobsctl command; each holds a click command named `command`, imported when it is asked for.

Only click and this package are imported at the top of them: what is heavy is imported by the body that needs it.
"""
