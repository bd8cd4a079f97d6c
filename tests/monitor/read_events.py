"""Print what TensorBoard itself reads from a folder of event files, as JSON: {tag: [[step, value], …]}.

Used by tests/it/tensorboard.rs; needs a Python with tensorboard: python tests/monitor/read_events.py FOLDER
"""
import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
