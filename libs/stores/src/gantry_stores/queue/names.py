"""The names of queues and tasks, and how long a task may take."""

INDEX_QUEUE = "index"
JUDGE_QUEUE = "judge"
BEAT_QUEUE = "beat"
QUEUES = (INDEX_QUEUE, JUDGE_QUEUE, BEAT_QUEUE)

INDEX_TASK = "gantry.index"
JUDGE_TASK = "gantry.judge"
SWEEP_TASK = "gantry.sweep"
PURGE_TASK = "gantry.purge"
FRAMES_TASK = "gantry.frames"
PUBLISH_TASK = "gantry.publish"
COMPLETE_TASK = "gantry.complete"
MEASURE_TASK = "gantry.measure"

VISIBILITY_SECONDS = 60
LONGEST_TASK_SECONDS = VISIBILITY_SECONDS // 3
