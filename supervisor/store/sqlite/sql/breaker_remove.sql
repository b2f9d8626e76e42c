DELETE FROM breaker WHERE queue = ?
