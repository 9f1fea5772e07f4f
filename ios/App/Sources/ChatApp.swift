import SwiftUI

@main
struct ChatApp: App {
    @StateObject private var model = ChatModel()
    @Environment(\.scenePhase) private var phase

    var body: some Scene {
        WindowGroup {
            ChatScreen()
                .environmentObject(model)
                .task { await model.load() }
        }
        .onChange(of: phase) { phase in
            if phase == .background {
                model.chat.pause()
            }
        }
    }
}
