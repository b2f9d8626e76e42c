SELECT letter.queue, letter.fingerprint, letter.died_at, letter_group.type, letter_group.message
FROM letter JOIN letter_group ON letter_group.queue = letter.queue AND letter_group.fingerprint = letter.fingerprint
WHERE letter.id = ?
