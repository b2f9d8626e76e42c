SELECT name, next_due_at FROM schedule
WHERE next_fire_at IS NOT NULL AND CASE WHEN :scope = '' THEN instr(name, '/') = 0 ELSE substr(name, 1, length(:scope) + 1) = :scope || '/' END
ORDER BY next_fire_at LIMIT 1
