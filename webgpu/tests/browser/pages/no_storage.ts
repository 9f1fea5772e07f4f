/** Before the worker: a browser that refuses storage, as some do in private windows. */
Object.defineProperty(StorageManager.prototype, "getDirectory", {
  value: () => Promise.reject(new DOMException("refused", "SecurityError")),
});
