UPDATE letter_group SET jobs = jobs - ?3 WHERE queue = ?1 AND fingerprint = ?2 RETURNING jobs
