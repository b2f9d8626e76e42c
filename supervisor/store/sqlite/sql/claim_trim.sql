DELETE FROM claim WHERE schedule = ?1 AND due_at <= (
  SELECT due_at FROM claim WHERE schedule = ?1 ORDER BY due_at DESC LIMIT 1 OFFSET ?2
)
