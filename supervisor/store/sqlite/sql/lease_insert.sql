INSERT INTO lease (token, owner, lane, leased_at, jobs) VALUES (?, ?, ?, ?, ?)
