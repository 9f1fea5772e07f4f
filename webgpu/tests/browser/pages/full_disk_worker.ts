import "./full_disk.ts";
import "../../../src/worker/worker.ts";
