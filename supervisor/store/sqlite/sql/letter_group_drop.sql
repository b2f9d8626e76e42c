DELETE FROM letter_group WHERE queue = ?1 AND fingerprint = ?2 AND jobs <= 0
