import Foundation

/// One part of a conversation. A system message may come first; then user and assistant take turns, and the last
/// message is the user's.
public struct Message: Sendable, Hashable, Codable {
    public enum Role: String, Sendable, Hashable, Codable {
        case system, user, assistant
    }

    public var role: Role
    public var text: String

    public init(_ role: Role, _ text: String) {
        self.role = role
        self.text = text
    }
}

/// How to open a bundle.
public struct Options: Sendable {
    /// Number of a device, or a part of its name; nil: the system's GPU.
    public var device: String?
    /// Tokens of one conversation, its answer included; nil: as many as the bundle allows.
    public var context: Int?
    /// Conversations that are answered side by side, each of which takes memory for a context.
    public var batch = 1
    /// Bytes that weights, caches and buffers may take; nil: what the system leaves to this app.
    public var memory: UInt64?
    /// Also compare the hashes of large files, which takes about a second a gigabyte.
    public var checksHashes = false
    /// The chat format that `edgellm package` made; nil: `chat.json` beside the bundle.
    public var chat: URL?
    /// Directory for compiled kernels; nil: the app's caches.
    public var cache: URL?

    public init() {}
}

/// How an answer is chosen and when it ends. `Engine.defaults` are the model's own.
public struct Settings: Sendable, Hashable {
    /// Tokens of the answer; nil: until the context is full.
    public var maxTokens: Int?
    /// 0: always the likeliest token.
    public var temperature: Double
    /// 1: off.
    public var topP: Double
    /// 0: off.
    public var minP: Double
    /// 0: off.
    public var topK: Int
    /// 1: off.
    public var repetitionPenalty: Double
    /// The same seed and the same request give the same answer; nil: another one each time.
    public var seed: UInt64?
    /// Texts that end an answer, which has what comes before: at most 16, each of at most 256 bytes.
    public var stop: [String] = []
}

/// Why an answer ended.
public enum EndReason: Sendable, Hashable {
    /// The model ended it, or one of `Settings.stop` came.
    case stop
    /// It had as many tokens as it may.
    case length
    case cancelled
}

/// What an answer took.
public struct Usage: Sendable, Hashable {
    public var promptTokens: Int
    public var answerTokens: Int
    /// Those of the prompt that an earlier request had computed.
    public var cachedTokens: Int
    public var reason: EndReason
}

/// A whole answer.
public struct Answer: Sendable, Hashable {
    public var text: String
    public var usage: Usage
}

/// What is open.
public struct Info: Sendable, Hashable {
    /// Name of the GPU.
    public var device: String
    /// Tokens of one conversation, its answer included.
    public var context: Int
    /// Conversations that are answered side by side.
    public var batch: Int
    public var vocabulary: Int
    /// Whether there is a chat format, without which only plain prompts are answered.
    public var chats: Bool
}

/// Why something failed. `localizedDescription` says what happened, to which file or option, and what to do.
public enum EdgeLLMError: Error, Sendable, Hashable {
    /// The bundle cannot be opened: it is damaged, for another device, or too large.
    case opening(String)
    /// There is less memory than the bundle takes; both in bytes.
    case memory(needed: UInt64, available: UInt64)
    /// The prompt or the settings are refused.
    case request(String)
    /// The answer failed halfway.
    case answering(String)
}

extension EdgeLLMError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .opening(let text), .request(let text), .answering(let text):
            return text
        case .memory(let needed, let available):
            return "the model takes \(needed >> 20) MiB and \(available >> 20) MiB are free: close other apps, "
                + "take a smaller context or batch, or build it with a smaller quantization"
        }
    }
}
