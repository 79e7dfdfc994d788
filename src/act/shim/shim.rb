# Runs one Ruby script for kindling, and answers on descriptor 3.
#
# A frame is a letter, the length of its payload in four bytes (big endian), and the payload. What comes from kindling
# are two payloads without a letter, both JSON: the parameters and the input.
# A script that defines `main` at its top level is loaded, and `main` is called; any other one is a program.

module KindlingShim
  CHANNEL = IO.for_fd(3, "r+b")
  MAX_BYTES = 16 << 20
  LOCK = Mutex.new
  # What a request for a value is made under, and the process that may make one.
  KV_LOCK = Mutex.new
  KV_OWNER = Process.pid

  module_function

  def read(count)
    data = String.new
    data << CHANNEL.readpartial(count - data.bytesize) while data.bytesize < count
    data
  rescue EOFError
    raise EOFError, "kindling: the private channel is closed"
  end

  def receive
    read(read(4).unpack1("N")).force_encoding(Encoding::UTF_8)
  end

  def send_frame(kind, payload)
    bytes = payload.b
    # A handler of a signal may come while the lock is held, and may not wait for it.
    LOCK.owned? ? write(kind, bytes) : LOCK.synchronize { write(kind, bytes) }
  rescue ThreadError
    write(kind, bytes)
  end

  def write(kind, bytes)
    frame = kind.b + [bytes.bytesize].pack("N") + bytes
    frame = frame.byteslice(CHANNEL.syswrite(frame)..) until frame.empty?
  rescue Errno::EPIPE, Errno::ECONNRESET
    # Nobody listens any more; that is no error of the script.
    nil
  end

  def from_json(text)
    return text == "null" ? nil : {} if ["null", "{}"].include?(text)

    require "json"
    JSON.parse(text, max_nesting: false)
  end

  # Why a value cannot be written, in words that all languages share.
  def reason(error)
    odd = error.message[/(-?Infinity|NaN) not allowed/, 1]
    odd ? "it holds #{odd}" : error.message
  end

  # What would be written as something else: a key that is nothing, and an object that has no word in JSON.
  def lost(value)
    case value
    when Hash
      return "a key that is nil" if value.key?(nil)

      value.each_value { |part| (found = lost(part)) && (return found) }
    when Array
      value.each { |part| (found = lost(part)) && (return found) }
    when String, Symbol, Numeric, nil, true, false
      nil
    else
      plain = value.method(:to_json).owner == JSON::Ext::Generator::GeneratorMethods::Object
      return "an object of #{value.class}" if plain && value.to_s.start_with?("#<")
    end
    nil
  end

  def to_json(what, value)
    return "null" if value.nil?

    require "json"
    begin
      text = JSON.generate(value)
      odd = (text.include?('"":') || text.include?('"#<')) && lost(value)
    rescue StandardError, SystemStackError => error
      raise TypeError, "#{what} cannot be written as JSON: #{reason(error)}"
    end
    raise TypeError, "#{what} cannot be written as JSON: it holds #{odd}" if odd

    size = text.bytesize
    raise ArgumentError, "#{what} has #{size} bytes as JSON, more than the #{MAX_BYTES} allowed" if size > MAX_BYTES

    text
  end

  def ask(kind, name, key, value = "")
    raise TypeError, "kv.#{name} takes a text, not #{key.class}" unless key.is_a?(String) || key.is_a?(Symbol)
    raise "kv: only the process that kindling started can use it" unless Process.pid == KV_OWNER
    raise "kv: what interrupts a call of kv cannot use it" if KV_LOCK.owned?

    text = key.to_s.encode(Encoding::UTF_8).b
    payload = kind.b + [text.bytesize].pack("N") + text + value.b
    if payload.bytesize > MAX_BYTES
      raise ArgumentError, "kv.#{name}: #{payload.bytesize} bytes are more than the #{MAX_BYTES} allowed"
    end

    kind, answer = KV_LOCK.synchronize { exchange(payload) }
    raise answer if kind == "E"

    from_json(answer)
  end

  def exchange(payload)
    raise "kv: a call was interrupted, so that no other one can be made" if @broken

    @broken = true
    send_frame("K", payload)
    answer = [read(1), receive]
    @broken = false
    answer
  end

  # What the task keeps between its runs.
  class Kv
    def get(key) = KindlingShim.ask("g", "get", key)

    def set(key, value)
      KindlingShim.ask("s", "set", key, KindlingShim.to_json("the value of #{key.inspect}", value))
      nil
    end

    def delete(key) = KindlingShim.ask("d", "delete", key)

    def list(prefix = "") = KindlingShim.ask("l", "list", prefix)
  end

  # The log that `main` is given.
  class Log
    %w[debug info warn error].each do |level|
      define_method(level) do |message, *rest|
        text = rest.empty? ? message.to_s : format(message.to_s, *rest)
        KindlingShim.send_frame("L", "#{level}\n#{text}".byteslice(0, MAX_BYTES))
      rescue ArgumentError, KeyError
        KindlingShim.send_frame("L", "#{level}\n#{[message, *rest].join(" ")}".byteslice(0, MAX_BYTES))
      end
    end
  end

  # The output that `main` is given.
  class Output
    def response(answer = nil, **more)
      answer = (answer || {}).transform_keys(&:to_s).merge(more.transform_keys(&:to_s))
      unknown = answer.keys - %w[status headers body]
      unless unknown.empty?
        raise ArgumentError, "output.response takes status, headers and body, not #{unknown.sort.join(", ")}"
      end

      status = answer["status"] || 200
      unless status.is_a?(Integer) && status.between?(200, 599)
        raise ArgumentError, "status is #{status.inspect}, not a number from 200 to 599"
      end

      headers = (answer["headers"] || {}).to_h { |name, value| [name.to_s, header(name.to_s, value)] }
      whole = { "status" => status, "headers" => headers, "body" => answer["body"] }
      KindlingShim.send_frame("H", KindlingShim.to_json("the response", whole))
    end

    private

    # Headers of the connection, and of kindling.
    NO_HEADERS = /\A(?:connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|kindling-.*)\z/i

    def header(name, value)
      raise ArgumentError, "#{name.inspect} is not the name of a header" unless name.match?(/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/)
      raise ArgumentError, "the header #{name} is not for scripts to set" if name.match?(NO_HEADERS)

      texts = Array(value).map(&:to_s)
      texts = [""] if value.nil?
      if texts.any? { |text| text.b.match?(/[^\t\x20-\x7e]/n) }
        raise ArgumentError, "the header #{name} has a character that no header may have"
      end

      value.is_a?(Array) ? texts : texts.first
    end
  end

  def report(error)
    send_frame("E", "#{error.class}: #{error.message}".byteslice(0, MAX_BYTES))
    # The lines of this file tell nobody anything.
    own = (error.backtrace || []).reject { |line| line.start_with?(__FILE__) }
    error.set_backtrace(own)
    warn error.full_message(highlight: false, order: :top)
  end

  # Those of the arguments that the signature of `main` takes.
  def arguments(main, given)
    kinds = main.parameters
    return given if kinds.any? { |kind, _| kind == :keyrest }

    names = kinds.filter_map { |kind, name| name if %i[key keyreq].include?(kind) }
    given.slice(*names)
  end

  def call_main(entry, params, input)
    load entry
    main = TOPLEVEL_BINDING.receiver.method(:main)
    takes = arguments(main, { params: params, input: input, kv: Kv.new, log: Log.new, output: Output.new })
    %i[params input].each { |name| takes[name] = from_json(takes[name]) if takes.key?(name) }
    send_frame("R", to_json("what main returned", main.call(**takes)))
  end

  def run(entry)
    CHANNEL.close_on_exec = true
    CHANNEL.sync = true
    $stdout.sync = true
    source = File.binread(entry)
    # Read in any case: what is not read would break the channel when the process ends.
    params, input = receive, receive
    is_main = source.match?(/^(?:(?:private|public|module_function)\s+)?def\s+(?:self\.)?main\b/)
    send_frame("M", is_main ? "main" : "program")
    # A guard such as `if __FILE__ == $0` is for programs.
    $0 = entry unless is_main
    is_main ? call_main(entry, params, input) : load(entry)
  rescue SystemExit, SignalException
    raise
  rescue Exception => error
    report(error)
    exit 1
  end
end

entry = ARGV.shift
ARGV.clear
KindlingShim.run(entry)
