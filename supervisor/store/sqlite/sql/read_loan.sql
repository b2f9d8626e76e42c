SELECT loan.consumer, owner.pid, loan.until_at FROM loan JOIN lease ON lease.token = loan.token
LEFT JOIN owner ON owner.id = lease.owner WHERE loan.token = ?
