import EdgeLLM
import Foundation

/// One conversation with the app's model: what is on the screen, without the screen.
@MainActor
final class Chat {
    enum State: Equatable {
        case loading
        case ready
        case failed(String)
    }

    struct Turn: Identifiable, Equatable {
        let id: Int
        let role: Message.Role
        var text: String
        /// Why an answer is not whole; nil for one that is, or that still comes.
        var note: String?
    }

    /// What the settings screen changes; nil: the model's own.
    struct Preferences: Equatable {
        var instructions = ""
        var temperature: Double?
        var topP: Double?
        var maxTokens = 1024
        /// Tokens of a conversation, up to the model's own; more takes more memory.
        var context = 4096
    }

    private(set) var state = State.loading
    private(set) var turns: [Turn] = []
    private(set) var isAnswering = false
    private(set) var info: Info?
    private(set) var defaults: Settings?
    /// Tokens of the longest conversation that the model can have.
    private(set) var longest: Int?
    var preferences = Preferences()
    /// Called before anything of this changes.
    var willChange: () -> Void = {}

    private let bundle: URL
    private var engine: Engine?
    /// What the preferences said when the engine was opened.
    private var openedContext: Int?
    private var isOpening = false
    private var answering: Task<Void, Never>?
    private var nextID = 0

    init(bundle: URL) {
        self.bundle = bundle
    }

    /// What the settings offer for `Preferences.context`: doublings up to the longest.
    var contexts: [Int] {
        guard let longest else { return [] }
        return sequence(first: 256) { $0 * 2 }.prefix { $0 < longest } + [longest]
    }

    /// Open the model, or open it anew where the preferences have another context now. Called again after a failure,
    /// it tries again.
    func load() async {
        guard !isOpening, openedContext != preferences.context else { return }
        isOpening = true
        defer { isOpening = false }
        repeat {
            await open(context: preferences.context)
        } while state == .ready && openedContext != preferences.context
    }

    private func open(context: Int) async {
        stop()
        await settle()
        change {
            engine = nil // two never take memory together
            openedContext = nil
            state = .loading
        }
        do {
            let own = try MemoryNeed(bundle: bundle).context
            change { longest = own }
            var options = Options()
            options.context = min(context, own)
            let opened = try await Engine(bundle: bundle, options: options)
            change {
                engine = opened
                openedContext = context
                info = opened.info
                defaults = opened.defaults
                state = .ready
            }
        } catch {
            change { state = .failed(error.localizedDescription) }
        }
    }

    /// Ask. Nothing happens while an answer comes, or if the question is empty.
    func send(_ text: String) {
        let question = text.trimmingCharacters(in: .whitespacesAndNewlines)
        guard let engine, !isAnswering, !question.isEmpty else { return }
        change {
            add(.user, question)
            add(.assistant, "")
            isAnswering = true
        }
        answering = Task { await answer(engine) }
    }

    /// End the answer that comes; what there is of it stays.
    func stop() {
        answering?.cancel()
    }

    /// A new conversation.
    func clear() {
        stop()
        change { turns = [] }
    }

    /// When the app goes to the background, where it may not compute on the GPU.
    func pause() {
        stop()
    }

    /// Wait until no answer comes any more.
    func settle() async {
        await answering?.value
    }

    private func answer(_ engine: Engine) async {
        let id = turns.last?.id
        var note: String?
        do {
            let room = min(preferences.maxTokens, max(1, engine.info.context / 2))
            let messages = try await engine.fitted(conversation(), room: room)
            let stream = engine.stream(messages, settings: settings(of: engine))
            for try await piece in stream {
                change { edit(id) { $0.text += piece } }
            }
            if Task.isCancelled {
                note = "Stopped"
            } else if stream.usage?.reason == .length {
                note = "Cut short: the answer is as long as it may be"
            }
        } catch {
            note = Task.isCancelled ? "Stopped" : error.localizedDescription
        }
        change {
            edit(id) { $0.note = note }
            isAnswering = false
        }
    }

    /// What the model is told: instructions, and the turns that have texts. The last one is the question.
    private func conversation() -> [Message] {
        var messages: [Message] = []
        let instructions = preferences.instructions.trimmingCharacters(in: .whitespacesAndNewlines)
        if !instructions.isEmpty {
            messages.append(Message(.system, instructions))
        }
        // A question that got no answer is asked only if it is the last.
        for (turn, next) in zip(turns, turns.dropFirst()) where turn.role == .user {
            if next.role == .assistant, !next.text.isEmpty {
                messages += [Message(.user, turn.text), Message(.assistant, next.text)]
            } else if next.id == turns.last?.id {
                messages.append(Message(.user, turn.text))
            }
        }
        return messages
    }

    private func settings(of engine: Engine) -> Settings {
        var settings = engine.defaults
        settings.maxTokens = preferences.maxTokens
        settings.temperature = preferences.temperature ?? settings.temperature
        settings.topP = preferences.topP ?? settings.topP
        return settings
    }

    private func add(_ role: Message.Role, _ text: String) {
        turns.append(Turn(id: nextID, role: role, text: text))
        nextID += 1
    }

    /// The turn may have gone with its conversation.
    private func edit(_ id: Int?, _ change: (inout Turn) -> Void) {
        if let index = turns.lastIndex(where: { $0.id == id }) {
            change(&turns[index])
        }
    }

    private func change(_ body: () -> Void) {
        willChange()
        body()
    }
}
