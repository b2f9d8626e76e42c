SELECT flow.id, flow.name, step.name, flow.context FROM step JOIN flow ON flow.id = step.flow WHERE step.id = ?
