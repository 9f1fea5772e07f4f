import Foundation
import XCTest

@testable import EdgeLLM

/// EDGELLM_BUNDLE names a bundle with its chat format beside it, EDGELLM_DEVICE the device if not the system's GPU.
final class EngineTests: XCTestCase {
    private func open(_ change: (inout Options) -> Void = { _ in }) async throws -> Engine {
        let environment = ProcessInfo.processInfo.environment
        guard let path = environment["EDGELLM_BUNDLE"] else {
            throw XCTSkip("EDGELLM_BUNDLE names no bundle")
        }
        var options = Options()
        options.device = environment["EDGELLM_DEVICE"]
        options.context = 256
        change(&options)
        return try await Engine(bundle: URL(fileURLWithPath: path), options: options)
    }

    private func settings(of engine: Engine, tokens: Int) -> Settings {
        var settings = engine.defaults
        settings.temperature = 0
        settings.maxTokens = tokens
        return settings
    }

    private let question = [Message(.user, "What is a bundle?")]

    func testAnEngineTellsWhatItIs() async throws {
        let engine = try await open()
        XCTAssertFalse(engine.info.device.isEmpty)
        XCTAssertEqual(engine.info.context, 256)
        XCTAssertGreaterThan(engine.info.vocabulary, 1000)
        XCTAssertTrue(engine.info.chats)
        XCTAssertGreaterThan(engine.defaults.topP, 0)
        XCTAssertNil(engine.defaults.maxTokens)
    }

    func testPiecesMakeTheAnswer() async throws {
        let engine = try await open()
        let stream = engine.stream(question, settings: settings(of: engine, tokens: 8))
        var pieces: [String] = []
        for try await piece in stream {
            pieces.append(piece)
        }
        let usage = try XCTUnwrap(stream.usage)
        XCTAssertGreaterThan(pieces.count, 1)
        XCTAssertLessThanOrEqual(usage.answerTokens, 8)
        XCTAssertEqual(usage.reason, usage.answerTokens == 8 ? .length : .stop)
        let count = try await engine.tokens(question)
        XCTAssertEqual(usage.promptTokens, count)
        // A device that only records gives what depends on all that it was told before.
        if engine.info.device != "recording" {
            let again = try await engine.answer(question, settings: settings(of: engine, tokens: 8))
            XCTAssertEqual(again.text, pieces.joined())
        }
    }

    func testAnswersAreMadeSideBySide() async throws {
        let engine = try await open { $0.batch = 4 }
        let settings = settings(of: engine, tokens: 5)
        let answers = try await withThrowingTaskGroup(of: Answer.self) { group in
            for number in 0..<6 {
                group.addTask {
                    try await engine.answer([Message(.user, "What is \(number)?")], settings: settings)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        XCTAssertEqual(answers.count, 6)
        XCTAssertTrue(answers.allSatisfy { $0.usage.answerTokens <= 5 })
    }

    func testATextGoesOn() async throws {
        let engine = try await open()
        let answer = try await engine.stream(prompt: "Bundles are", settings: settings(of: engine, tokens: 3)).answer()
        XCTAssertGreaterThan(answer.usage.promptTokens, 1)
        XCTAssertLessThanOrEqual(answer.usage.answerTokens, 3)
    }

    func testCancellingTheTaskEndsTheRequest() async throws {
        let engine = try await open()
        let stream = engine.stream(prompt: "One two three", settings: endless(of: engine))
        let task = Task {
            for try await _ in stream {}
        }
        try await Task.sleep(nanoseconds: 20_000_000)
        task.cancel()
        _ = await task.result
        try await ends(stream, with: .cancelled)
    }

    func testLeavingTheLoopEndsTheRequest() async throws {
        let engine = try await open()
        let stream = engine.stream(prompt: "One two three", settings: endless(of: engine))
        for try await _ in stream {
            break
        }
        stream.cancel()
        try await ends(stream, with: .cancelled)
    }

    func testCancellingBeforeItBegins() async throws {
        let engine = try await open()
        let stream = engine.stream(question, settings: endless(of: engine))
        stream.cancel()
        for try await _ in stream {}
        XCTAssertEqual(stream.usage?.reason, .cancelled)
    }

    func testACancelledTaskGetsNoAnswer() async throws {
        let engine = try await open()
        let endless = endless(of: engine), question = question
        let task = Task { try await engine.answer(question, settings: endless) }
        task.cancel()
        do {
            _ = try await task.value
            XCTFail("an answer came")
        } catch is CancellationError {}
    }

    func testStreamsAreCancelledAtAnyMoment() async throws {
        let engine = try await open()
        for moment in 0..<30 {
            let stream = engine.stream(question, settings: endless(of: engine))
            try await Task.sleep(nanoseconds: UInt64(moment) * 700_000)
            if moment % 3 > 0 {
                stream.cancel()
            }
            if moment % 3 > 1 {
                try await ends(stream, with: .cancelled)
            }
        }
        let answer = try await engine.answer(question, settings: settings(of: engine, tokens: 2))
        XCTAssertGreaterThan(answer.usage.answerTokens, 0)
    }

    func testAStreamKeepsItsEngine() async throws {
        var engine: Engine? = try await open()
        let stream = engine!.stream(question, settings: settings(of: engine!, tokens: 4))
        engine = nil
        let answer = try await stream.answer()
        XCTAssertLessThanOrEqual(answer.usage.answerTokens, 4)
    }

    func testRefusedRequestsSayWhy() async throws {
        let engine = try await open()
        var settings = settings(of: engine, tokens: 4)
        await expect(of: { _ = try await engine.answer([]) }) { error in
            guard case .request = error else { return false }
            return true
        }
        let long = [Message(.user, String(repeating: "word ", count: 400))]
        await expect(of: { _ = try await engine.answer(long) }) { error in
            guard case .request(let text) = error else { return false }
            return text.contains("shorten the prompt") && error.localizedDescription == text
        }
        settings.temperature = 1000
        let wrong = settings, question = question
        await expect(of: { _ = try await engine.answer(question, settings: wrong) }) { error in
            guard case .request(let text) = error else { return false }
            return text.contains("temperature")
        }
    }

    func testBundlesThatCannotBeOpened() async throws {
        _ = try await open()
        await expect(of: { _ = try await Engine(bundle: URL(fileURLWithPath: "/nowhere/bundle")) }) { error in
            guard case .opening(let text) = error else { return false }
            return text.contains("/nowhere/bundle")
        }
        await expect(of: { [self] in _ = try await open { $0.memory = 4096 } }) { error in
            guard case .memory(let needed, 4096) = error else { return false }
            return needed > 1 << 20 && error.localizedDescription.contains("close other apps")
        }
        await expect(of: { [self] in _ = try await open { $0.device = "no such device" } }) { error in
            guard case .opening = error else { return false }
            return true
        }
    }

    func testTextsWithAnyCharacters() async throws {
        let engine = try await open()
        let plain = try await engine.tokens([Message(.user, "ab")])
        let strange = try await engine.tokens([Message(.user, "a\u{0}b é 🎉 \u{FFFF}")])
        XCTAssertGreaterThan(strange, plain)
    }

    func testOldTurnsGoWhenTheContextIsFull() async throws {
        let engine = try await open()
        var messages: [Message] = []
        for number in 0..<20 {
            messages.append(Message(.user, "Question \(number) about many different things?"))
            messages.append(Message(.assistant, "Answer \(number), which is about as long as that."))
        }
        messages.append(Message(.user, "And the last one?"))
        let kept = try await engine.fitted(messages, room: 64)
        XCTAssertLessThan(kept.count, messages.count)
        XCTAssertEqual(kept.count % 2, 1)
        XCTAssertEqual(kept, Array(messages.suffix(kept.count)))
        let count = try await engine.tokens(kept)
        XCTAssertLessThanOrEqual(count, engine.info.context - 64)
        let more = try await engine.tokens(Array(messages.suffix(kept.count + 2)))
        XCTAssertGreaterThan(more, engine.info.context - 64)
        let short = try await engine.fitted(question, room: 64)
        XCTAssertEqual(short, question)
    }

    private func endless(of engine: Engine) -> Settings {
        var settings = engine.defaults
        settings.maxTokens = nil
        settings.temperature = 0
        settings.repetitionPenalty = 1
        return settings
    }

    private func ends(_ stream: AnswerStream, with reason: EndReason) async throws {
        for _ in 0..<500 {
            if let usage = stream.usage {
                return XCTAssertEqual(usage.reason, reason)
            }
            try await Task.sleep(nanoseconds: 10_000_000)
        }
        XCTFail("the request goes on")
    }

    private func expect(
        of body: () async throws -> Void, _ matches: (EdgeLLMError) -> Bool, line: UInt = #line
    ) async {
        do {
            try await body()
            XCTFail("nothing failed", line: line)
        } catch let error as EdgeLLMError {
            XCTAssertTrue(matches(error), error.localizedDescription, line: line)
        } catch {
            XCTFail("\(error)", line: line)
        }
    }
}
