import EdgeLLM
import SwiftUI

/// The conversation for the screens, and what is kept of the settings.
@MainActor
final class ChatModel: ObservableObject {
    let chat: Chat

    @AppStorage("instructions") private var instructions = ""
    @AppStorage("temperature") private var temperature = Double.nan
    @AppStorage("topP") private var topP = Double.nan
    @AppStorage("maxTokens") private var maxTokens = 1024
    @AppStorage("context") private var context = Chat.Preferences().context

    init() {
        // `edgellm package ios` puts the bundle there, and its chat format beside it.
        let folder = Bundle.main.resourceURL ?? Bundle.main.bundleURL
        chat = Chat(bundle: folder.appendingPathComponent("Model/bundle", isDirectory: true))
        chat.willChange = { [weak self] in self?.objectWillChange.send() }
        chat.preferences = preferences
    }

    func load() async {
        await chat.load()
    }

    var preferences: Chat.Preferences {
        get {
            Chat.Preferences(
                instructions: instructions, temperature: temperature.isNaN ? nil : temperature,
                topP: topP.isNaN ? nil : topP, maxTokens: maxTokens, context: context)
        }
        set {
            objectWillChange.send()
            instructions = newValue.instructions
            temperature = newValue.temperature ?? .nan
            topP = newValue.topP ?? .nan
            maxTokens = newValue.maxTokens
            context = newValue.context
            chat.preferences = newValue
        }
    }
}
