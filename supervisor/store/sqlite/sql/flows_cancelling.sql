SELECT id FROM flow WHERE finished_at IS NULL AND state = 'cancelling'
