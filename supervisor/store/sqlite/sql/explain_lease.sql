SELECT lease.token FROM lease CROSS JOIN json_each(lease.jobs) AS held WHERE held.value ->> 0 = ?
