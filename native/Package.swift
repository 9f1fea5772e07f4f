// swift-tools-version:5.9
// The C core as a package, with Metal on Apple's systems and OpenCL elsewhere. ios/Package.swift makes it Swift.
import PackageDescription

#if os(Linux)
let metal = ["src/metal.m", "src/metal_kernels.m"]
#else
let metal: [String] = []
#endif
let apple: BuildSettingCondition = .when(platforms: [.iOS, .macOS, .macCatalyst, .visionOS])

let package = Package(
    name: "CEdgeLLM",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "CEdgeLLM", targets: ["CEdgeLLM"])],
    targets: [
        .target(
            name: "CEdgeLLM",
            path: ".",
            exclude: ["CMakeLists.txt", "README.md", "cli", "fuzz", "tools"] + metal,
            sources: ["src"],
            publicHeadersPath: "include",
            cSettings: [.headerSearchPath("src"), .define("ELL_METAL", apple)],
            linkerSettings: [
                .linkedFramework("Foundation", apple), .linkedFramework("Metal", apple),
                // MTLCreateSystemDefaultDevice gives none to command-line programs without it.
                .linkedFramework("CoreGraphics", .when(platforms: [.macOS])),
            ]
        )
    ],
    cLanguageStandard: .c11
)
