SELECT queue, phase, failed_at, opened_at, until_at, cooldown, probe, reason FROM breaker
