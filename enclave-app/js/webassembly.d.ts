/** The part of WebAssembly that the engine needs; Node's types name the namespace and leave it empty. */
declare namespace WebAssembly {
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  const Memory: { new (descriptor: { initial: number; maximum: number }): Memory };
  /** Compiles the bytes of a module. */
  function compile(bytes: Uint8Array): Promise<Module>;
}
