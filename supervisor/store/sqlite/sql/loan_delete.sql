DELETE FROM loan WHERE token = ?
