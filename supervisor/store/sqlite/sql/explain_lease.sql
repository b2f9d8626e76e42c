SELECT lease.token, owner.slot FROM lease CROSS JOIN json_each(lease.jobs) AS held
LEFT JOIN owner ON owner.id = lease.owner WHERE held.value ->> 0 = ?
