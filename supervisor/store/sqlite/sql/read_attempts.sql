SELECT attempt, at, kind, message, detail FROM attempt WHERE id = ? ORDER BY seq
