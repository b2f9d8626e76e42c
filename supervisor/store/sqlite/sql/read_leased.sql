SELECT held.value ->> 0, lease.token, owner.slot, owner.pid, held.value ->> 4
FROM lease CROSS JOIN json_each(lease.jobs) AS held LEFT JOIN owner ON owner.id = lease.owner
