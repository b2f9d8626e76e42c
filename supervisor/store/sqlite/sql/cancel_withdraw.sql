UPDATE trail SET cancel_at = NULL WHERE id = ? AND cancel_at IS NOT NULL
