import EdgeLLM
import SwiftUI

struct SettingsScreen: View {
    @EnvironmentObject private var model: ChatModel
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        NavigationStack {
            Form {
                Section("Instructions") {
                    TextField(
                        "How the model should answer", text: $model.preferences.instructions, axis: .vertical
                    )
                    .lineLimit(2...8)
                }
                Section {
                    SettingSlider(
                        name: "Temperature", value: $model.preferences.temperature,
                        own: model.chat.defaults?.temperature ?? 1, range: 0...2)
                    SettingSlider(
                        name: "Top-p", value: $model.preferences.topP, own: model.chat.defaults?.topP ?? 1,
                        range: 0.05...1)
                    Stepper(value: $model.preferences.maxTokens, in: 64...8192, step: 64) {
                        LabeledContent("Longest answer", value: "\(model.preferences.maxTokens) tokens")
                    }
                    Button("Use the model's own") {
                        model.preferences.temperature = nil
                        model.preferences.topP = nil
                    }
                } header: {
                    Text("Answers")
                } footer: {
                    Text("A lower temperature gives answers that vary less.")
                }
                if let longest = model.chat.longest {
                    Section {
                        Picker("Longest conversation", selection: context(upTo: longest)) {
                            ForEach(model.chat.contexts, id: \.self) { context in
                                Text("\(context) tokens")
                            }
                        }
                    } footer: {
                        Text("A shorter one takes less memory. The model is opened anew for it.")
                    }
                }
                if let info = model.chat.info {
                    Section("This device") {
                        LabeledContent("GPU", value: info.device)
                        LabeledContent(
                            "Version",
                            value: Bundle.main.infoDictionary?["CFBundleShortVersionString"] as? String ?? "")
                    }
                }
            }
            .navigationTitle("Settings")
            .navigationBarTitleDisplayMode(.inline)
            .toolbar {
                ToolbarItem(placement: .confirmationAction) {
                    Button("Done") { dismiss() }
                }
            }
        }
    }

    private func context(upTo longest: Int) -> Binding<Int> {
        Binding(get: { min(model.preferences.context, longest) }, set: { model.preferences.context = $0 })
    }
}

/// A number that may be the model's own.
private struct SettingSlider: View {
    let name: String
    @Binding var value: Double?
    let own: Double
    let range: ClosedRange<Double>

    private var shown: Double { value ?? own }

    private var text: String {
        let number = shown.formatted(.number.precision(.fractionLength(2)))
        return value == nil ? "\(number) (the model's)" : number
    }

    var body: some View {
        VStack(alignment: .leading) {
            LabeledContent(name, value: text)
                .accessibilityHidden(true)
            Slider(value: Binding(get: { shown }, set: { value = $0 }), in: range, step: 0.05)
                .accessibilityLabel(name)
                .accessibilityValue(text)
        }
    }
}
