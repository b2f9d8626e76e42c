"""OTP's supervision as pure functions: `react(tree, event, now_ms) -> (tree, commands)`."""
