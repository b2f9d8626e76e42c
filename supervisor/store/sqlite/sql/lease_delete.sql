DELETE FROM lease WHERE token = ?
