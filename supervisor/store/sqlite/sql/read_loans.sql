SELECT queue.name, loan.consumer, owner.pid, loan.token, lease.leased_at, loan.until_at,
  (SELECT json_group_array(held.value ->> 0) FROM json_each(lease.jobs) AS held
   WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = held.value ->> 0))
FROM loan JOIN lease ON lease.token = loan.token JOIN queue ON queue.id = lease.queue
LEFT JOIN owner ON owner.id = lease.owner
