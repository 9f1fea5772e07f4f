import "./no_storage.ts";
import "../../../src/worker/worker.ts";
