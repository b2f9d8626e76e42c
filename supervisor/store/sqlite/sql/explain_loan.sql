SELECT consumer, until_at FROM loan WHERE token = ?
