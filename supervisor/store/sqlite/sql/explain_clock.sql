SELECT clock FROM queue WHERE id = ?
