SELECT name, next_due_at FROM schedule WHERE next_fire_at IS NOT NULL ORDER BY next_fire_at LIMIT 1
