import Foundation

#if os(iOS) || os(visionOS)
import os
#endif

/// What a bundle takes in memory, as its manifest says.
public struct MemoryNeed: Sendable, Hashable {
    public let weights: UInt64
    /// For each token of a conversation.
    public let token: UInt64
    /// Buffers and the rest.
    public let runtime: UInt64
    /// The longest conversation of the bundle, in tokens.
    public let context: Int

    /// Read `edgellm.json` of a bundle.
    public init(bundle: URL) throws {
        let file = bundle.appendingPathComponent("edgellm.json")
        do {
            let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: file))
            weights = manifest.memory.weight_bytes
            token = manifest.memory.kv_bytes_per_token
            runtime = manifest.memory.runtime_bytes
            context = manifest.context
        } catch {
            throw EdgeLLMError.opening("\(file.path) cannot be read: \(error.localizedDescription)")
        }
    }

    /// Bytes for conversations of so many tokens, so many at a time.
    public func bytes(context: Int, batch: Int = 1) -> UInt64 {
        let (one, large) = token.multipliedReportingOverflow(by: UInt64(max(0, context)))
        let (cache, larger) = one.multipliedReportingOverflow(by: UInt64(max(0, batch)))
        let (some, more) = weights.addingReportingOverflow(cache)
        let (all, most) = some.addingReportingOverflow(runtime)
        return large || larger || more || most ? .max : all
    }

    /// Bytes that the system still leaves to this app; nil where it does not say.
    ///
    /// On iOS an app that takes more is ended. The entitlement `com.apple.developer.kernel.increased-memory-limit`
    /// raises the limit on devices that allow it.
    public static var available: UInt64? {
        #if os(iOS) || os(visionOS)
        let left = UInt64(os_proc_available_memory())
        return left == 0 ? nil : left
        #else
        return ProcessInfo.processInfo.physicalMemory
        #endif
    }

    /// Throws `EdgeLLMError.memory` if there is too little of it.
    func check(context: Int?, batch: Int, available: UInt64?) throws {
        let needed = bytes(context: min(context ?? self.context, self.context), batch: batch)
        if let available, needed > available {
            throw EdgeLLMError.memory(needed: needed, available: available)
        }
    }

    private struct Manifest: Decodable {
        struct Memory: Decodable {
            let weight_bytes, kv_bytes_per_token, runtime_bytes: UInt64
        }

        let memory: Memory
        let context: Int
    }
}
