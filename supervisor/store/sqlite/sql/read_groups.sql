SELECT fingerprint, queue, jobs, type, message, first_at, last_at,
       (SELECT max(letter.id) FROM letter
        WHERE letter.fingerprint = letter_group.fingerprint AND letter.queue = letter_group.queue)
FROM letter_group WHERE :queue IS NULL OR queue = :queue
