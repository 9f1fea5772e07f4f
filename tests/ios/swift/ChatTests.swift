import EdgeLLM
import Foundation
import XCTest

@testable import Chat

/// The sample app's conversation, with the bundle that EDGELLM_BUNDLE names.
final class ChatTests: XCTestCase {
    @MainActor
    private func open(_ path: String? = nil, context: Int = 256) async throws -> Chat {
        let named = try XCTUnwrap(path ?? ProcessInfo.processInfo.environment["EDGELLM_BUNDLE"])
        let chat = Chat(bundle: URL(fileURLWithPath: named))
        chat.preferences.context = context
        XCTAssertEqual(chat.state, .loading)
        await chat.load()
        chat.preferences.temperature = 0
        chat.preferences.maxTokens = 12
        return chat
    }

    @MainActor
    func testAQuestionGetsAnAnswer() async throws {
        let chat = try await open()
        XCTAssertEqual(chat.state, .ready)
        XCTAssertNotNil(chat.defaults)
        var changes = 0
        chat.willChange = { changes += 1 }
        chat.send("  What is a bundle?\n")
        XCTAssertTrue(chat.isAnswering)
        await chat.settle()
        XCTAssertFalse(chat.isAnswering)
        XCTAssertEqual(chat.turns.map(\.role), [.user, .assistant])
        XCTAssertEqual(chat.turns.map(\.id), [0, 1])
        XCTAssertEqual(chat.turns[0].text, "What is a bundle?")
        XCTAssertFalse(chat.turns[1].text.isEmpty)
        XCTAssertGreaterThan(changes, 3)
    }

    @MainActor
    func testTheNextQuestionKnowsTheLast() async throws {
        let chat = try await open()
        chat.send("What is a bundle?")
        await chat.settle()
        let first = chat.turns[1].text
        chat.send("What is a bundle?")
        await chat.settle()
        XCTAssertEqual(chat.turns.count, 4)
        chat.clear()
        XCTAssertTrue(chat.turns.isEmpty)
        chat.send("What is a bundle?")
        await chat.settle()
        XCTAssertEqual(chat.turns.map(\.text), ["What is a bundle?", first])
    }

    @MainActor
    func testInstructionsReachTheModel() async throws {
        let chat = try await open()
        // More than the context holds, and never left out.
        chat.preferences.instructions = String(repeating: "Be brief. ", count: 200)
        chat.send("Who are you?")
        await chat.settle()
        XCTAssertTrue(chat.turns[1].text.isEmpty)
        XCTAssertTrue(chat.turns[1].note?.contains("shorten the prompt") == true, chat.turns[1].note ?? "")
        // Without them the same question is answered.
        chat.preferences.instructions = " "
        chat.send("Who are you?")
        await chat.settle()
        XCTAssertFalse(chat.turns[3].text.isEmpty)
    }

    @MainActor
    func testAnAnswerIsCutAtItsLongest() async throws {
        let chat = try await open()
        chat.preferences.maxTokens = 2
        chat.send("What is a bundle?")
        await chat.settle()
        XCTAssertEqual(chat.turns[1].note, "Cut short: the answer is as long as it may be")
    }

    @MainActor
    func testAnAnswerIsStopped() async throws {
        let chat = try await open()
        chat.preferences.maxTokens = 200
        chat.send("Count as far as you can.")
        chat.send("This one is not sent.")
        chat.stop()
        await chat.settle()
        XCTAssertEqual(chat.turns.count, 2)
        XCTAssertEqual(chat.turns[1].note, "Stopped")
        XCTAssertFalse(chat.isAnswering)
        // A question without an answer does not stand in the way of the next.
        chat.preferences.maxTokens = 4
        chat.send("What is a bundle?")
        await chat.settle()
        XCTAssertFalse(chat.turns[3].text.isEmpty)
    }

    @MainActor
    func testAConversationIsClearedWhileAnAnswerComes() async throws {
        let chat = try await open()
        chat.preferences.maxTokens = 200
        chat.send("Count as far as you can.")
        chat.clear()
        XCTAssertTrue(chat.turns.isEmpty)
        await chat.settle()
        XCTAssertTrue(chat.turns.isEmpty)
        XCTAssertFalse(chat.isAnswering)
    }

    @MainActor
    func testNothingIsSentWhenThereIsNothingToSend() async throws {
        let chat = try await open()
        chat.send(" \n ")
        XCTAssertTrue(chat.turns.isEmpty)
        XCTAssertFalse(chat.isAnswering)
    }

    @MainActor
    func testAnotherContextOpensTheModelAnew() async throws {
        let chat = try await open(context: Chat.Preferences().context)
        // As much as the bundle has, for one conversation.
        XCTAssertEqual(chat.info?.context, 1024)
        XCTAssertEqual(chat.info?.batch, 1)
        XCTAssertEqual(chat.contexts, [256, 512, 1024])
        chat.preferences.maxTokens = 200
        chat.send("Count as far as you can.")
        chat.preferences.context = 512
        await chat.load()
        XCTAssertEqual(chat.state, .ready)
        XCTAssertEqual(chat.info?.context, 512)
        XCTAssertFalse(chat.isAnswering)
        XCTAssertEqual(chat.turns[1].note, "Stopped")
        chat.preferences.maxTokens = 4
        chat.send("What is a bundle?")
        await chat.settle()
        XCTAssertFalse(chat.turns[3].text.isEmpty)
    }

    @MainActor
    func testAModelThatCannotBeOpened() async throws {
        let chat = try await open("/nowhere/bundle")
        guard case .failed(let reason) = chat.state else {
            return XCTFail("it was opened")
        }
        XCTAssertTrue(reason.contains("/nowhere/bundle"))
        chat.send("Anybody there?")
        XCTAssertTrue(chat.turns.isEmpty)
    }
}
