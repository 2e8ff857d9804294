// Perfetto's trace processor, built for browsers, run by node: `node trace_processor_host.js FOLDER`, the folder being the
// one with engine_bundle.js and the .wasm files. Requests (perfetto.protos.TraceProcessorRpcStream) come on standard
// input and replies of the same type go to standard output; it ends when the input does.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
const port = {
  onmessage: null,
  postMessage: (reply) => fs.writeSync(1, Buffer.from(reply)),
};

const beside = (name) => fs.readFileSync(path.join(folder, path.basename(String(name))));

// What the bundle takes for a web worker's world: no `process`, and requests that find the files beside the bundle.
// Its words go to standard error.
const worker = {
  TextDecoder, TextEncoder, URL, performance, setTimeout, clearTimeout, queueMicrotask,
  console: { log: console.error, warn: console.error, error: console.error, info: console.error, debug: console.error },
  location: { href: "http://localhost/engine_bundle.js", origin: "http://localhost" },
  WorkerGlobalScope: function WorkerGlobalScope() {},
  importScripts: () => {},
  XMLHttpRequest: class {
    open(_method, name) {
      this.name = name;
    }
    send() {
      this.response = beside(this.name);
    }
  },
};
worker.self = worker;
vm.createContext(worker);
vm.runInContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"), worker, { filename: "engine_bundle.js" });
worker.onmessage({ data: port });

// The module is built at once and gets ready in what is queued behind this script.
const Bytes = vm.runInContext("Uint8Array", worker);
setImmediate(() => port.onmessage({ data: new Bytes(fs.readFileSync(0)) }));
