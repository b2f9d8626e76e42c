INSERT INTO lease (token, owner, queue, leased_at, jobs) VALUES (?, ?, ?, ?, ?)
