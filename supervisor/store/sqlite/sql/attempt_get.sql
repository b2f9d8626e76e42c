SELECT kind, message, detail FROM attempt WHERE id = ? AND seq = ?
