DELETE FROM letter_group WHERE queue = ? AND fingerprint = ?
