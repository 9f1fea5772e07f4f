import Foundation

/// A bundle, open on this device's GPU. It may be used from any task, for several answers at a time.
///
///     let engine = try await Engine(bundle: url)
///     for try await text in engine.stream([Message(.user, "What is a bundle?")]) {
///         print(text, terminator: "")
///     }
///
/// Its memory is given back when the engine and its streams are let go of. While an app is in the background iOS lets
/// it compute nothing on the GPU: answers that run then fail, so cancel them first.
public final class Engine: Sendable {
    public let info: Info
    /// The model's own settings.
    public let defaults: Settings
    private let core: Core

    /// Open a bundle: look at the memory there is, check files, and compile kernels, which takes seconds the first
    /// time.
    ///
    /// Throws `EdgeLLMError.opening` and `EdgeLLMError.memory`.
    public init(bundle: URL, options: Options = Options()) async throws {
        try MemoryNeed(bundle: bundle).check(
            context: options.context, batch: options.batch, available: options.memory ?? MemoryNeed.available)
        var options = options
        options.cache = options.cache ?? Engine.cache()
        let given = options
        core = try await onThread { try Core(bundle: bundle, options: given) }
        info = core.info
        defaults = core.defaults
    }

    /// The answer to a conversation as it is being made.
    public func stream(_ messages: [Message], settings: Settings? = nil) -> AnswerStream {
        let core = core
        return AnswerStream(core: core, settings: settings ?? defaults) { try core.ids(of: messages) }
    }

    /// How a text goes on, without the form of a conversation.
    public func stream(prompt: String, settings: Settings? = nil) -> AnswerStream {
        let core = core
        return AnswerStream(core: core, settings: settings ?? defaults) { try core.ids(of: prompt) }
    }

    /// The whole answer to a conversation.
    public func answer(_ messages: [Message], settings: Settings? = nil) async throws -> Answer {
        try await stream(messages, settings: settings).answer()
    }

    /// Tokens that a conversation takes.
    public func tokens(_ messages: [Message]) async throws -> Int {
        let core = core
        return try await onThread { try core.ids(of: messages).count }
    }

    /// The conversation without its oldest turns, as many of them as must go so that an answer of `room` tokens still
    /// fits into the context. The system message and the last turn stay.
    public func fitted(_ messages: [Message], room: Int) async throws -> [Message] {
        let core = core
        let most = max(1, info.context - room)
        return try await onThread {
            var kept = messages
            while let oldest = kept.firstIndex(where: { $0.role != .system }),
                oldest + 2 < kept.count, try core.ids(of: kept).count > most
            {
                kept.removeSubrange(oldest..<(oldest + 2))
            }
            return kept
        }
    }

    /// Where compiled kernels are kept; nil if there is no such place.
    private static func cache() -> URL? {
        let manager = FileManager.default
        guard
            let caches = try? manager.url(
                for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        else { return nil }
        let folder = caches.appendingPathComponent("edgellm-kernels", isDirectory: true)
        try? manager.createDirectory(at: folder, withIntermediateDirectories: true)
        return manager.fileExists(atPath: folder.path) ? folder : nil
    }
}
