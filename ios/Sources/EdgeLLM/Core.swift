import CEdgeLLM
import Foundation

/// The C core's engine. Its functions may be called from any thread.
final class Core: @unchecked Sendable {
    private let engine: OpaquePointer

    /// Blocks while files are checked and kernels compiled.
    init(bundle: URL, options: Options) throws {
        var error = ell_error()
        let texts = CStrings([options.device, options.chat?.path, options.cache?.path])
        defer { texts.free() }
        var given = ell_options()
        given.device = texts[0]
        given.chat = texts[1]
        given.cache = texts[2]
        given.context = Int64(options.context ?? 0)
        given.batch = Int64(options.batch)
        given.memory = options.memory ?? 0
        given.check_hashes = options.checksHashes ? 1 : 0
        guard let opened = ell_open(bundle.path, &given, &error) else {
            throw EdgeLLMError.opening(error.message)
        }
        engine = opened
    }

    deinit {
        ell_close(engine)
    }

    var info: Info {
        // In C the function has the same name as the struct that it fills.
        let fill: (OpaquePointer, UnsafeMutablePointer<ell_info>) -> Void = ell_info
        var info = ell_info()
        fill(engine, &info)
        let device = withUnsafeBytes(of: info.device) { string(from: $0) }
        return Info(
            device: device, context: Int(info.context), batch: Int(info.batch), vocabulary: Int(info.vocabulary),
            chats: info.chat != 0)
    }

    var defaults: Settings {
        var own = ell_settings()
        ell_defaults(engine, &own)
        return Settings(
            maxTokens: own.max_tokens == 0 ? nil : Int(own.max_tokens), temperature: own.temperature, topP: own.top_p,
            minP: own.min_p, topK: Int(own.top_k), repetitionPenalty: own.repetition_penalty)
    }

    /// Ids of a conversation as the model is to see it.
    func ids(of messages: [Message]) throws -> [Int32] {
        let texts = CStrings(messages.map(\.text)), roles = CStrings(messages.map(\.role.rawValue))
        defer {
            texts.free()
            roles.free()
        }
        let given = messages.indices.map {
            ell_message(role: roles[$0], text: texts[$0], size: messages[$0].text.utf8.count)
        }
        return try ids { room, count, error in
            ell_chat(engine, given, given.count, room, count, error)
        }
    }

    /// Ids of a text, with what the model's tokenizer puts around it.
    func ids(of text: String) throws -> [Int32] {
        let texts = CStrings([text])
        defer { texts.free() }
        return try ids { room, count, error in
            ell_tokenize(engine, texts[0], text.utf8.count, 1, room, count, error)
        }
    }

    private func ids(
        _ make: (UnsafeMutablePointer<Int32>?, Int, UnsafeMutablePointer<ell_error>) -> Int64
    ) throws -> [Int32] {
        var error = ell_error()
        var found = [Int32](repeating: 0, count: 1024)
        while true {
            let count = found.withUnsafeMutableBufferPointer { Int(make($0.baseAddress, $0.count, &error)) }
            if count < 0 {
                throw EdgeLLMError.request(error.message)
            }
            if count <= found.count {
                return Array(found[..<count])
            }
            found = [Int32](repeating: 0, count: count)
        }
    }

    /// Queue a prompt. The request must be freed before this engine.
    func submit(_ ids: [Int32], _ settings: Settings) throws -> OpaquePointer {
        let stop = CStrings(settings.stop)
        defer { stop.free() }
        var error = ell_error()
        var request: OpaquePointer?
        let status = ids.withUnsafeBufferPointer { ids in
            stop.pointers.withUnsafeBufferPointer { stop in
                var prompt = ell_prompt()
                prompt.ids = ids.baseAddress
                prompt.count = ids.count
                ell_defaults(engine, &prompt.settings)
                prompt.settings.max_tokens = Int64(settings.maxTokens ?? 0)
                prompt.settings.temperature = settings.temperature
                prompt.settings.top_p = settings.topP
                prompt.settings.min_p = settings.minP
                prompt.settings.top_k = Int32(clamping: settings.topK)
                prompt.settings.repetition_penalty = settings.repetitionPenalty
                prompt.settings.seed = settings.seed ?? 0
                prompt.settings.stop = stop.baseAddress
                prompt.settings.stops = stop.count
                return ell_submit(engine, &prompt, 1, &request, &error)
            }
        }
        guard status == 0, let request else {
            throw EdgeLLMError.request(error.message)
        }
        return request
    }
}

/// Texts as C takes them, until they are freed: all their bytes, and a zero.
struct CStrings {
    let pointers: [UnsafePointer<CChar>?]

    init(_ texts: [String?]) {
        pointers = texts.map { text in
            guard let text else { return nil }
            let bytes = text.utf8CString
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
            copy.initialize(from: Array(bytes), count: bytes.count)
            return UnsafePointer(copy)
        }
    }

    subscript(index: Int) -> UnsafePointer<CChar>? { pointers[index] }

    func free() {
        for pointer in pointers {
            pointer?.deallocate()
        }
    }
}

extension ell_error {
    var message: String {
        withUnsafeBytes(of: self.text) { string(from: $0) }
    }
}

private func string(from bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
}

/// Run what blocks on a thread of its own, so that no thread of Swift's tasks waits.
func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread {
            continuation.resume(with: Swift.Result(catching: body))
        }
    }
}
