"""Small files in the formats that the readers know, written here by hand, for tests that need no real profile."""

from __future__ import annotations

import json
import pickle
import sqlite3
from pathlib import Path

SNAPSHOT = {
    "segments": [
        {
            "device": 0, "address": 0x1000, "total_size": 4096, "allocated_size": 1536, "active_size": 1536,
                "stream": 0,
            "segment_type": "small",
            "blocks": [
                {"address": 0x1000, "size": 1024, "requested_size": 1000, "state": "active_allocated"},
                {"address": 0x1400, "size": 512, "requested_size": 512, "state": "active_allocated"},
                {"address": 0x1600, "size": 2560, "requested_size": 0, "state": "inactive"},
            ],
        }
    ],
    "device_traces": [
        [
            {"action": "segment_alloc", "addr": 0x1000, "size": 4096, "stream": 0, "time_us": 5},
            {"action": "alloc", "addr": 0x1000, "size": 1024, "stream": 0, "time_us": 6,
             "frames": [{"filename": "net.py", "line": 7, "name": "forward"}]},
            {"action": "alloc", "addr": 0x1400, "size": 2048, "stream": 0, "time_us": 8},
            {"action": "free_requested", "addr": 0x1400, "size": 2048, "stream": 0, "time_us": 9},
            {"action": "free_completed", "addr": 0x1400, "size": 2048, "stream": 0, "time_us": 9},
            {"action": "alloc", "addr": 0x1400, "size": 512, "stream": 0, "time_us": 12},
        ],
        [],
    ],
}  # fmt: skip
"""A pool of one segment: 1024 bytes kept, 2048 freed and 512 of them used again."""

MEMSCOPE = """\
ID,Event,Event Type,Name,Timestamp(ns),Process Id,Thread Id,Device Id,Ptr,Attr,Call Stack(Python),Call Stack(C)
1,MALLOC,HAL,N/A,1000,9,9,0,4096,"{addr:4096,size:8192,owner:,MID:7}",,
2,OP_LAUNCH,ATEN_START,aten.add,1500,9,9,0,N/A,,,
3,MALLOC,PTA,N/A,1600,9,9,0,8192,"{addr:8192,size:512,owner:PTA@ops,total:8192,used:512}",,
4,KERNEL_LAUNCH,KERNEL_LAUNCH,Add,1700,9,9,0,N/A,,,
5,OP_LAUNCH,ATEN_END,aten.add,1900,9,9,0,N/A,,,
6,MALLOC,PTA,N/A,2000,9,9,0,8704,"{addr:8704,size:256,owner:PTA@ops,total:8192,used:768}",,
7,FREE,PTA,N/A,2500,9,9,0,8192,"{addr:8192,size:512,owner:PTA@ops,total:8192,used:256}",,
8,FREE,HAL,N/A,3000,9,9,N/A,4096,"{addr:4096,size:N/A,owner:,MID:N/A}",,
"""

OP_SUMMARY = """\
Device_id,Model ID,Task ID,Stream ID,Op Name,OP Type,Task Type,Task Start Time(us),Task Duration(us),\
Task Wait Time(us),Block Num,Mix Block Num,Input Shapes,Input Data Types,\
Output Shapes,Output Data Types,aic_mac_ratio,aiv_vec_ratio
0,1,11,2,MatMul_1,MatMulV2,AI_CORE,1700000000000001.250\t,12.5,0,24,0,"""  + '"""512,16;16,64"""' + """,\
FLOAT16;FLOAT16,""" + '"""512,64"""' + """,FLOAT16,0.625,N/A
0,1,12,2,Add_2,Add,AI_VECTOR_CORE,1700000000000020.001\t,3.75,1.2,40,0,""" + '"""512,64;512,64"""' + """,\
FLOAT16;FLOAT16,""" + '"""512,64"""' + """,FLOAT16,N/A,0.5
"""  # fmt: skip
"""Two kernels as msprof's command line exports them, start times to the nanosecond."""

STEP_TRACE = "Step,Computing,Communication(Not Overlapped),Overlapped,Communication,Free,Stage,Bubble,Preparing\n"

CLUSTER_STEPS = """\
Step,Type,Index,Computing,Communication(Not Overlapped),Overlapped,Communication,Free,Stage,Bubble
2,rank,0,75.25,10.5,4.5,15.0,9.125,300,0
2,rank,1,70.0,15.0,5.0,20.0,10.0,300,0
2,stage,0,75.25,15.0,5.0,20.0,10.0,300,0
3,rank,0,76,10,5,15,9,301,0
"""

LINKS = {
    "step13": {
        "p2p": {
            "batchsendrecv-top1@group": {
                "0-1": {
                    "Transport Type": "HCCS", "Transit Size(MB)": 8.388608, "Transit Time(ms)": 0.5,
                    "Bandwidth(GB/s)": 16.7772, "Op Name": "send",
                },
                "zero-1": {"Transit Size(MB)": 1},
            }
        },
        "collective": {
            "Total Op Info": {"0-1": {"Transit Size(MB)": 1, "Transit Time(ms)": 1}},
            "allreduce-top1@group": {"0-2": {"Transport Type": "RDMA", "Transit Size(MB)": 1.0,
                "Transit Time(ms)": 0.25}},
        },
    }
}  # fmt: skip


def snapshot(folder: Path) -> Path:
    """A memory snapshot as torch_npu dumps it."""
    path = folder / "snapshot.pkl"
    path.write_bytes(pickle.dumps(SNAPSHOT))
    return path


def table(folder: Path, name: str, text: str) -> Path:
    """A file of that name; what is between is made."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def links(folder: Path) -> Path:
    """A rank's directory with a step and who sent what to whom in it."""
    table(folder, "rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/step_trace_time.csv", STEP_TRACE + "13,1,2,3,5,4,10,0,0\n")
    table(folder, "rank0_ascend_pt/ASCEND_PROFILER_OUTPUT/communication_matrix.json", json.dumps(LINKS))
    return folder


DATABASE = """
CREATE TABLE STRING_IDS (id INTEGER PRIMARY KEY, value TEXT);
INSERT INTO STRING_IDS VALUES (1, 'MatMul_1'), (2, 'MatMul'), (3, 'AI_CORE'), (4, '"64,64;64,64"'), (5,
    'FLOAT16;FLOAT16'),
    (6, '"64,64"'), (7, 'FLOAT16'), (8, 'hcom_allReduce__1'), (9, 'hcom_allReduce_'), (10, 'group'), (11,
        'Reduce_Inline'),
    (12, 'aic_total_time'), (13, 'aic_mac_ratio'), (14, 'PTA'), (15, 'aten::mm'), (16, 'launch'), (17, 'read'),
    (18, 'app'), (19, 'INT'), (20, 'Notify_Wait'), (21, 'EVENT');
CREATE TABLE RANK_DEVICE_MAP (rankId INTEGER, deviceId INTEGER);
INSERT INTO RANK_DEVICE_MAP VALUES (0, 6);
CREATE TABLE NPU_INFO (id INTEGER, name TEXT);
INSERT INTO NPU_INFO VALUES (6, 'Ascend910B3');
CREATE TABLE ENUM_API_TYPE (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO ENUM_API_TYPE VALUES (5000, 'runtime'), (50001, 'op');
CREATE TABLE ENUM_MODULE (id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO ENUM_MODULE VALUES (3, 'HCCL');
CREATE TABLE TASK (startNs INTEGER, endNs INTEGER, deviceId INTEGER, connectionId INTEGER, globalTaskId INTEGER,
    globalPid INTEGER, taskType INTEGER, contextId INTEGER, streamId INTEGER, taskId INTEGER, modelId INTEGER);
INSERT INTO TASK VALUES (1000, 3000, 6, 70, 0, 1, 3, 0, 2, 0, 0), (2500, 4000, 6, 71, 1, 1, 21, 0, 5, 1, 0),
    (5000, 6000, 6, 72, 2, 1, 3, 0, 2, 2, 0);
CREATE TABLE COMPUTE_TASK_INFO (name INTEGER, globalTaskId INTEGER, blockDim INTEGER, opType INTEGER, taskType INTEGER,
    inputShapes INTEGER, inputDataTypes INTEGER, outputShapes INTEGER, outputDataTypes INTEGER);
INSERT INTO COMPUTE_TASK_INFO VALUES (1, 0, 20, 2, 3, 4, 5, 6, 7), (1, 2, 20, 2, 3, 4, 5, 6, 7), (1, 9, 20, 2, 3, 4,
    5, 6, 7);
CREATE TABLE TASK_PMU_INFO (globalTaskId INTEGER, name INTEGER, value NUMERIC);
INSERT INTO TASK_PMU_INFO VALUES (0, 12, 1900.0), (0, 13, 0.75), (2, 13, 0.5);
CREATE TABLE COMMUNICATION_OP (opName INTEGER, startNs INTEGER, endNs INTEGER, connectionId INTEGER, groupName INTEGER,
    opId INTEGER, opType INTEGER);
INSERT INTO COMMUNICATION_OP VALUES (8, 2500, 4000, 71, 10, 0, 9);
CREATE TABLE COMMUNICATION_TASK_INFO (name INTEGER, globalTaskId INTEGER, taskType INTEGER, planeId INTEGER,
    groupName INTEGER,
    opId INTEGER);
INSERT INTO COMMUNICATION_TASK_INFO VALUES (8, 1, 11, 0, 10, 0);
CREATE TABLE CANN_API (startNs INTEGER, endNs INTEGER, type INTEGER, globalTid INTEGER, connectionId INTEGER,
    name INTEGER);
INSERT INTO CANN_API VALUES (800, 900, 5000, 77, 70, 16);
CREATE TABLE PYTORCH_API (startNs INTEGER, endNs INTEGER, globalTid INTEGER, connectionId INTEGER, name INTEGER,
    type INTEGER);
INSERT INTO PYTORCH_API VALUES (700, 950, 78, 0, 15, 50001);
CREATE TABLE CONNECTION_IDS (id INTEGER, connectionId INTEGER);
INSERT INTO CONNECTION_IDS VALUES (0, 70);
CREATE TABLE STEP_TIME (id INTEGER, startNs INTEGER, endNs INTEGER);
INSERT INTO STEP_TIME VALUES (4, 500, 4500);
CREATE TABLE MEMORY_RECORD (component INTEGER, timestamp INTEGER, totalAllocated INTEGER, totalReserved INTEGER,
    totalActive INTEGER, streamPtr INTEGER, deviceId INTEGER);
INSERT INTO MEMORY_RECORD VALUES (14, 1100, 2048, 4096, 2048, 0, 6), (14, 1000, 1024, 4096, 1024, 0, 6);
CREATE TABLE OP_MEMORY (name INTEGER, size INTEGER, allocationTime INTEGER, releaseTime INTEGER);
INSERT INTO OP_MEMORY VALUES (15, 1024, 1000, 3000), (15, 1024, 1100, NULL);
CREATE TABLE NPU_MEM (type INTEGER, ddr NUMERIC, hbm NUMERIC, timestampNs INTEGER, deviceId INTEGER);
INSERT INTO NPU_MEM VALUES (18, 0, 8192, 1000, 6);
CREATE TABLE NPU_MODULE_MEM (moduleId INTEGER, timestampNs INTEGER, totalReserved INTEGER, deviceId INTEGER);
INSERT INTO NPU_MODULE_MEM VALUES (3, 1000, 512, 6);
CREATE TABLE HBM (deviceId INTEGER, timestampNs INTEGER, bandwidth NUMERIC, hbmId INTEGER, type INTEGER);
INSERT INTO HBM VALUES (6, 1000, 2500000.0, 0, 17);
CREATE TABLE AICORE_FREQ (deviceId INTEGER, timestampNs INTEGER, freq INTEGER);
INSERT INTO AICORE_FREQ VALUES (6, 1000, 1800);
"""
"""A run of two matrix products and an all-reduce beside the first, with host calls, memory and counters."""

ANALYSIS = """
CREATE TABLE StepTraceTime (deviceId INTEGER, step TEXT, computing NUMERIC, communication_not_overlapped NUMERIC,
    overlapped NUMERIC, communication NUMERIC, free NUMERIC, stage NUMERIC, bubble NUMERIC, preparing NUMERIC);
INSERT INTO StepTraceTime VALUES (6, '4', 3.0, 1.0, 0.5, 1.5, 1.0, 5.0, 0, 0);
CREATE TABLE CommAnalyzerMatrix (hccl_op_name TEXT, group_name TEXT, src_rank TEXT, dst_rank TEXT, transport_type TEXT,
    transit_size NUMERIC, transit_time NUMERIC, bandwidth NUMERIC, step TEXT, type TEXT, op_name TEXT);
INSERT INTO CommAnalyzerMatrix VALUES ('allreduce-top1', '77', '0', '1', 'HCCS', 2.5, 0.125, 20.0, 'step4',
    'collective', 'x');
"""


def database(folder: Path) -> Path:
    """A rank's directory as torch_npu writes it with `export_type=Db`."""
    output = folder / "rank0_ascend_pt" / "ASCEND_PROFILER_OUTPUT"
    output.mkdir(parents=True)
    for name, script in (("ascend_pytorch_profiler_0.db", DATABASE), ("analysis.db", ANALYSIS)):
        connection = sqlite3.connect(output / name)
        connection.executescript(script)
        connection.close()
    return folder


TRACE_2023 = [
    {"name": "process_name", "pid": 100, "tid": 0, "ph": "M", "args": {"name": "Ascend Hardware"}},
    {"name": "thread_name", "pid": 100, "tid": 2, "ph": "M", "args": {"name": "Stream 2"}},
    {"name": "MatMul_1", "pid": 100, "tid": 2, "ts": 56635864386.8, "dur": 12.5, "ph": "X",
        "args": {"Task Type": "AI_CORE"}},
    {"name": "Add_2", "pid": 100, "tid": 2, "ts": 56635864400.25, "dur": 2.0, "ph": "X",
        "args": {"Task Type": "AI_VECTOR_CORE"}},
]  # fmt: skip
"""Times in microseconds since boot, as floats."""


def mindspore_2023(folder: Path) -> Path:
    """The directory that MindSpore's profiler left in 2023: msprof's own layout, a device a folder."""
    table(folder, "PROF_000001_20230818000000000_ABC/device_0/timeline/msprof_0_2_1.json", json.dumps(TRACE_2023))
    table(folder, "PROF_000001_20230818000000000_ABC/device_0/summary/op_summary_0_2_1.csv", OP_SUMMARY)
    return folder
