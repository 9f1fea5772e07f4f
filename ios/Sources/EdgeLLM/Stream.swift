import CEdgeLLM
import Foundation

/// An answer's text, piece by piece. It is computed whether or not it is read; to end it early, cancel the task that
/// reads it, let go of the stream, or call `cancel`.
public struct AnswerStream: AsyncSequence, Sendable {
    public typealias Element = String

    private let pieces: AsyncThrowingStream<String, any Error>
    private let request: Request

    init(core: Core, settings: Settings, ids: @escaping @Sendable () throws -> [Int32]) {
        let request = Request()
        self.request = request
        pieces = AsyncThrowingStream { continuation in
            continuation.onTermination = { _ in request.cancel() }
            Thread.detachNewThread {
                do {
                    try request.run(core, settings: settings, ids: ids) { continuation.yield($0) }
                    continuation.finish()
                } catch {
                    continuation.finish(throwing: error)
                }
            }
        }
    }

    public func makeAsyncIterator() -> AsyncThrowingStream<String, any Error>.Iterator {
        pieces.makeAsyncIterator()
    }

    /// End the answer soon. What there is of it still comes.
    public func cancel() {
        request.cancel()
    }

    /// What the answer took; nil until it has ended.
    public var usage: Usage? { request.usage }

    /// The whole answer. Throws `CancellationError` if the task was cancelled before it ended.
    public func answer() async throws -> Answer {
        var text = ""
        for try await piece in self {
            text += piece
        }
        guard !Task.isCancelled, let usage else {
            throw CancellationError()
        }
        return Answer(text: text, usage: usage)
    }
}

/// A request from its beginning to its end, on a thread of its own.
final class Request: @unchecked Sendable {
    private static let pieceBytes = 1024

    private let lock = NSLock()
    private var pointer: OpaquePointer?
    private var isCancelled = false
    private var ended: Usage?

    var usage: Usage? {
        lock.lock()
        defer { lock.unlock() }
        return ended
    }

    func cancel() {
        lock.lock()
        defer { lock.unlock() }
        isCancelled = true
        if let pointer {
            ell_cancel(pointer)
        }
    }

    /// Blocks until the answer has ended.
    func run(
        _ core: Core, settings: Settings, ids: () throws -> [Int32], piece: (String) -> Void
    ) throws {
        let prompt = try ids()
        let request = try core.submit(prompt, settings)
        begin(request)
        defer { end(request) }
        var error = ell_error()
        var bytes = [CChar](repeating: 0, count: Request.pieceBytes)
        while true {
            var size = 0
            let status = ell_next(request, &bytes, bytes.count, &size, &error)
            if status < 0 {
                throw EdgeLLMError.answering(error.message)
            }
            if status == 0 {
                return
            }
            piece(String(decoding: bytes[..<size].lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
    }

    private func begin(_ request: OpaquePointer) {
        lock.lock()
        defer { lock.unlock() }
        pointer = request
        if isCancelled {
            ell_cancel(request)
        }
    }

    private func end(_ request: OpaquePointer) {
        let fill: (OpaquePointer, UnsafeMutablePointer<ell_usage>) -> Void = ell_usage
        var usage = ell_usage()
        fill(request, &usage)
        lock.lock()
        pointer = nil
        let reason: EndReason =
            usage.reason == ELL_STOP ? .stop : usage.reason == ELL_LENGTH ? .length : .cancelled
        ended = Usage(
            promptTokens: Int(usage.prompt_tokens), answerTokens: Int(usage.answer_tokens),
            cachedTokens: Int(usage.cached_tokens), reason: reason)
        lock.unlock()
        ell_free(request)
    }
}
